"""Keys of encrypted rooms: what is kept, decided and computed. Synchronous; nothing here knows the network."""
