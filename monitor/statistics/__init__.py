"""Pure statistics: arrays in, numbers out. Knows numpy, scipy, torch and registry.errors only."""
