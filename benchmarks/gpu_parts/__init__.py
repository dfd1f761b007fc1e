"""What benchmarks.gpu checks and measures, a part a file: `cases(setup)`, which part.py runs in a process apart."""
