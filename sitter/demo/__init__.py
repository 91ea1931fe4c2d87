"""What `sitter demo` does: three trainings of one model, and the comparison."""
