"""Updates from one version of Muster to another."""
