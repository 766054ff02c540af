"""The page about the policies of a hybrid."""
