"""From instances to series and studies: what is read as one scan, and what counts no more."""
