"""The pure core: games, how a rule plays them, and the small types that everything else uses."""
