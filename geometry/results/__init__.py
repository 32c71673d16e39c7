"""What an analysis of a view gives, and the loop over its sites that can be broken off and taken up."""
