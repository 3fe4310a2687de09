"""The commands: sweep, train, tables, infer, tune and benchmark."""
