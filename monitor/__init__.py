"""From scan to episode: intake, embedding, references, detection, labels."""
