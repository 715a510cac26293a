"""The pure core: games, how a rule plays them, and the small types of which all is made."""
