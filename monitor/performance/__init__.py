"""What labels say of a version: how well it reads, and whether that fell."""
