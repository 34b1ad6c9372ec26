"""The parts of SARIF 2.1.0 that we write, as a JSON schema: what must be there, what may be, and of which values.

After the specification (OASIS, errata 01, section 3). Nothing that is not listed may be there, so that a misspelt
property is found.
"""

from typing import Any


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = required | (optional or {})
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _list(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "uniqueItems": True}


TEXT = {"type": "string", "minLength": 1}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = _object({"text": TEXT})
RULE = _object(
    {"id": TEXT},
    {
        "shortDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": _object({}, {"level": LEVEL}),
        "properties": {"type": "object"},
    },
)
PLACE = _object(
    {"artifactLocation": _object({"uri": {"type": "string", "format": "uri-reference", "pattern": r"^[^ ]+$"}})},
    {"region": _object({"startLine": {"type": "integer", "minimum": 1}})},
)
KINDS = ["function", "member", "module", "namespace", "type", "returnType", "parameter", "variable"]
LOCATION = _object(
    {},
    {
        "physicalLocation": PLACE,
        "logicalLocations": _list(_object({}, {"fullyQualifiedName": TEXT, "kind": {"enum": KINDS}})),
    },
)
RESULT = _object(
    {"message": MESSAGE},
    {
        "ruleId": TEXT,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": LEVEL,
        "locations": _list(LOCATION),
        "relatedLocations": _list(LOCATION),
        "occurrenceCount": {"type": "integer", "minimum": 1},
        "partialFingerprints": {"type": "object", "additionalProperties": TEXT},
        "suppressions": _list(_object({"kind": {"enum": ["inSource", "external"]}}, {"justification": TEXT})),
    },
)
LOG = _object(
    {
        "version": {"const": "2.1.0"},
        "runs": _list(
            _object(
                {"tool": _object({"driver": _object({"name": TEXT}, {"rules": _list(RULE)})})},
                {"results": _list(RESULT), "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]}},
            ),
            least=1,
        ),
    },
    {"$schema": {"type": "string", "format": "uri"}},
)
