"""Counts words: a Crunch task in plain Python 3, without a library.

The text comes on standard input, as it is (text/plain) or as {"text": "…", "top": 10} (application/json). The answer
goes to standard output as JSON. Whatever is wrong with the text is said on the events descriptor, and the exit code 65
tells that another attempt would not help.
"""

import json
import os
import re
import sys
from collections import Counter

EX_DATAERR = 65
DEFAULT_TOP = 10
MAX_TOP = 1000

# Letters and digits of any script, with apostrophes and hyphens inside.
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

# Line buffered: an event is told when its line ends. Started by hand, without a worker, events go nowhere.
events = open(int(os.environ["CRUNCH_EVENTS_FD"]), "w", buffering=1) if "CRUNCH_EVENTS_FD" in os.environ else None


def tell(event):
    if events:
        print(json.dumps(event), file=events)


def refuse(message):
    """Ends the job for good."""
    tell({"error": {"code": "payload_invalid", "message": message, "retryable": False}})
    sys.exit(EX_DATAERR)


def read():
    """The text, and how many of its most frequent words are wanted."""
    payload = sys.stdin.buffer.read()
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(f"the text is not UTF-8: {error}")
    if os.environ.get("CRUNCH_CONTENT_TYPE") == "text/plain":
        return text, DEFAULT_TOP
    try:
        request = json.loads(text)
    except ValueError as error:
        refuse(f"the payload is not JSON: {error}")
    if not isinstance(request, dict) or not isinstance(request.get("text"), str):
        refuse('expected an object such as {"text": "to be or not to be"}')
    top = request.get("top", DEFAULT_TOP)
    if type(top) is not int or not 1 <= top <= MAX_TOP:
        refuse(f"top is {top!r}; expected a whole number from 1 to {MAX_TOP}")
    return request["text"], top


def count(text):
    """How often each word occurs, capitals or not; tells how far it is, a hundred times at most."""
    words = Counter()
    told = 0.0
    for match in WORD.finditer(text):
        words[match.group().casefold()] += 1
        done = match.end() / len(text)
        if done - told >= 0.01:
            told = done
            tell({"progress": round(done, 2), "message": f"{words.total()} words"})
    return words


text, top = read()
words = count(text)
print(f"{len(text)} characters, {words.total()} words", file=sys.stderr)
# The most frequent first, those of the same count in the order of the alphabet: the same text, the same answer.
ranking = sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:top]
answer = {"words": words.total(), "different": len(words), "top": [{"word": word, "count": n} for word, n in ranking]}
json.dump(answer, sys.stdout, ensure_ascii=False)
