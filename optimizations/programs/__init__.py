"""Programs read as graphs and edited: blocks, new operations, what nothing needs any more, packages written anew."""
