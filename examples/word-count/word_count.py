"""Counts words: a Crunch task in plain Python 3, without a library.

Reads the text from standard input, as it is (text/plain) or as {"text": "…", "top": 10} (application/json), and writes
the result to standard output as JSON. An error in the payload is reported on the events descriptor; exit code 65 means
that another attempt would not help.
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

# Line buffered: an event is sent when its line ends. Without a worker there is no descriptor, and no events are sent.
events = open(int(os.environ["CRUNCH_EVENTS_FD"]), "w", buffering=1) if "CRUNCH_EVENTS_FD" in os.environ else None


def report(event):
    if events:
        print(json.dumps(event), file=events)


def fail(message):
    """Fails the job permanently."""
    report({"error": {"code": "payload_invalid", "message": message, "retryable": False}})
    sys.exit(EX_DATAERR)


def read():
    """Returns the text, and how many of its most frequent words to return."""
    payload = sys.stdin.buffer.read()
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(f"the text is not UTF-8: {error}")
    if os.environ.get("CRUNCH_CONTENT_TYPE") == "text/plain":
        return text, DEFAULT_TOP
    try:
        request = json.loads(text)
    except ValueError as error:
        fail(f"the payload is not JSON: {error}")
    if not isinstance(request, dict) or not isinstance(request.get("text"), str):
        fail('expected an object such as {"text": "to be or not to be"}')
    top = request.get("top", DEFAULT_TOP)
    if type(top) is not int or not 1 <= top <= MAX_TOP:
        fail(f"top is {top!r}; expected a whole number from 1 to {MAX_TOP}")
    return request["text"], top


def count(text):
    """Counts each word, ignoring case; reports progress a hundred times at most."""
    words = Counter()
    reported = 0.0
    for match in WORD.finditer(text):
        words[match.group().casefold()] += 1
        done = match.end() / len(text)
        if done - reported >= 0.01:
            reported = done
            report({"progress": round(done, 2), "message": f"{words.total()} words"})
    return words


text, top = read()
words = count(text)
print(f"{len(text)} characters, {words.total()} words", file=sys.stderr)
# The most frequent first, words with the same count in alphabetical order: the same text always has the same result.
ranking = sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:top]
result = {"words": words.total(), "different": len(words), "top": [{"word": word, "count": n} for word, n in ranking]}
json.dump(result, sys.stdout, ensure_ascii=False)
