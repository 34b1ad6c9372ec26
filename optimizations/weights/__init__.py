"""What every pass over weights shares: which are large, what they may be left out by, how a package is rewritten."""
