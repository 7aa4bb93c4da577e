"""What `make check` asks of the packages that are installed; nothing here is part of toiletspark."""
