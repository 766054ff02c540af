"""What each notebook shows: a room for each page, and the pieces that all of them are made of."""
