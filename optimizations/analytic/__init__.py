"""Constants that a formula gives: Fourier matrices, windows and mel filters, recognised in programs and made exact."""
