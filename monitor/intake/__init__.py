"""From a received file to a de-identified scan, by one path for every road."""
