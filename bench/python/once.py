"""A command that starts once a job."""

import json
import sys

json.load(sys.stdin)
print('{"ok":true}')
