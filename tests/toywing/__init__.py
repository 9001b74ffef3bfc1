"""How bright is *where*? A toy wing: all that a fifth instrument has to bring."""

COMMANDS = {"brightness": "toywing.brightness:Brightness"}
