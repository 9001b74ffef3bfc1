"""whatwhere: how much *where* is in your *what*?"""
