"""Gates: rules that can refuse a candidate, each a pure function of evidence and limits."""
