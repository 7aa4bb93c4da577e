"""The colours of the drawn pictures.

All rooms use the same lists: if only toilets were blue, a head would learn that.
"""

from toiletspark.demo.stage import colours

WHITE, BLACK, STEEL, CHROME, GLASS = colours("f4f4f1 222326 b0b4b8 cdd2d6 282b30")
WALLS = colours(
    "f0eee8 ece4d4 e2e2e2 cdd6dc ced8c8 e9d4ca e8d6aa b4c6cd a8b8a0 d6b29c 7a8c98 e2dcec"
)
WOODS = colours("c49e70 aa8054 8a6240 d2b68e 705038 b2a08a")
TILES = colours("eeeeea d6d4ce b8baba 969898 c8d6da deceb8 a0babe beccb4 5c6268")
FABRICS = colours("78808a 546a86 a05c4e c4a05c 68806c cec6b8 94768a 464c56 e0dcd4 b2866e")
FRONTS = colours("f2f1ed e4e0d4 b0b4b4 c49e70 966e4a 9aac9c 4e6074 464a4e cebea6")
LEAVES = colours("46783e 5c8a48 3a6846 749248 547e5c")
PLASTERS = colours("f0ece2 e8d8b4 debea0 ced6da ba6e56 d6cebe a8604a")
ROOFS = colours("964c3a 784236 54545a 685c54 464a54 ac6042")
SKIES = colours("689ed6 86b0d8 a8b4c0 5c8cc4 96a0ac")
