"""What proves who asks: passwords, tokens, sessions; and who administers them."""
