"""Shadow: a candidate reads beside the champion before anybody may approve it."""
