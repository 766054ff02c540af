"""What a user hands in (files, patterns, directories, archives, pipes) as bounded blocks of whole lines of UTF-8."""
