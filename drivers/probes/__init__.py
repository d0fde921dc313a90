"""Health checks from outside: tcp, http, ssh and command; and agent, which never passes a server alone.

Rules that every probe here keeps: it ends by itself within the check's deadline; a sick, silent, lying or
endless server makes it say so, never raise; what it says is one printable line of at most 200 characters
(words.py) that names what was asked, what came back and how long it took; it speaks to the server's own
address and to nothing else.
"""
