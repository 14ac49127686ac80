"""What is known of network addresses without asking the network."""
