"""What ``produce --file`` reads: lines, rows of CSV, or messages behind their lengths."""
