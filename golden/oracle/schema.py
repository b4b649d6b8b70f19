"""What a validator that is not ours says of spec files.

Reads one JSON object with `schema` and `documents` on stdin; writes a list a document, of the
pointers at which it breaks the schema, those inside alternatives included. Ends with 4 where the
package `jsonschema` is not installed: pip install jsonschema
"""

import json
import sys

try:
    import jsonschema
except ImportError:
    sys.stderr.write("no package jsonschema here: pip install jsonschema\n")
    sys.exit(4)


def pointers(error):
    """The pointer of an error, and of those that it came of."""
    yield "".join(f"/{part}" for part in error.absolute_path)
    for cause in error.context:
        yield from pointers(cause)


def main():
    question = json.load(sys.stdin)
    jsonschema.Draft202012Validator.check_schema(question["schema"])
    validator = jsonschema.Draft202012Validator(question["schema"])
    answer = [
        sorted({at for error in validator.iter_errors(document) for at in pointers(error)})
        for document in question["documents"]
    ]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
