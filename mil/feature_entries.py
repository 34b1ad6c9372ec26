"""The inputs, outputs and states of a model as metadata.json describes them."""

from collections.abc import Callable, Iterable

from mil.errors import MilError, UnknownFormError
from mil.schema import FeatureTypes_pb2, Model_pb2

Entry = dict[str, str]

_ARRAYS = {
    FeatureTypes_pb2.ArrayFeatureType.FLOAT32: "Float32",
    FeatureTypes_pb2.ArrayFeatureType.DOUBLE: "Double",
    FeatureTypes_pb2.ArrayFeatureType.INT32: "Int32",
    FeatureTypes_pb2.ArrayFeatureType.INT8: "Int8",
    FeatureTypes_pb2.ArrayFeatureType.FLOAT16: "Float16",
}
ARRAY_TYPES = {title: proto for proto, title in _ARRAYS.items()}
_COLORS = {"GRAYSCALE": "Grayscale", "GRAYSCALE_FLOAT16": "Grayscale16Half"}


def entries(features: Iterable[Model_pb2.FeatureDescription]) -> list[Entry]:
    """Return one entry per feature; raises UnknownFormError for a type whose entry is not known."""
    return [_entry(feature) for feature in features]


def _entry(feature: Model_pb2.FeatureDescription) -> Entry:
    kind = feature.type.WhichOneof("Type")
    if kind not in _BY_KIND:
        raise UnknownFormError(
            f"feature {feature.name!r}: how metadata.json describes a {kind or 'missing type'} is not known"
        )
    return _BY_KIND[kind](feature)


# The order in which keys are set decides the order in the file; these orders reproduce Apple's, see foundation.py.
_FIXED_ARRAY = (
    "hasShapeFlexibility",
    "isOptional",
    "dataType",
    "shape",
    "type",
    "shortDescription",
    "name",
    "formattedType",
)
_FLEXIBLE_ARRAY = (
    "dataType",
    "shapeFlexibility",
    "shapeRange",
    "type",
    "shortDescription",
    "shape",
    "name",
    "hasShapeFlexibility",
    "isOptional",
    "formattedType",
)


def _array(feature: Model_pb2.FeatureDescription) -> Entry:
    array = feature.type.multiArrayType
    which = array.WhichOneof("ShapeFlexibility")
    if which == "enumeratedShapes":
        raise UnknownFormError(f"feature {feature.name!r}: enumerated shapes, whose compiled form is not known")
    element, shape = _array_type(array, feature.name), list(array.shape)
    ranges = [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges]
    entry = {
        "name": feature.name,
        "shortDescription": feature.shortDescription,
        "isOptional": _optional(feature),
        "type": "MultiArray",
        "dataType": element,
        "shape": str(shape),
        "formattedType": f"MultiArray ({_joined(element, shape)})",
        "hasShapeFlexibility": str(int(which is not None)),
        "shapeFlexibility": " × ".join(_range(low, high) for low, high in ranges),
        "shapeRange": str([list(bounds) for bounds in ranges]),
    }
    return {key: entry[key] for key in (_FLEXIBLE_ARRAY if which else _FIXED_ARRAY)}


def _state(feature: Model_pb2.FeatureDescription) -> Entry:
    array = feature.type.stateType.arrayType
    element, shape = _array_type(array, feature.name), list(array.shape)
    return {
        "name": feature.name,
        "type": "State",
        "formattedType": f"State ({_joined(element, shape)})",
        "dataType": element,
        "shortDescription": feature.shortDescription,
        "shape": str(shape),
        "isOptional": _optional(feature),
    }


def _image(feature: Model_pb2.FeatureDescription) -> Entry:
    image = feature.type.imageType
    which = image.WhichOneof("SizeFlexibility")
    if which == "enumeratedSizes":
        raise UnknownFormError(f"feature {feature.name!r}: enumerated sizes, whose compiled form is not known")
    space = image.ColorSpace.Name(image.colorSpace)
    color = _COLORS.get(space, "Color")
    entry = {
        "hasSizeFlexibility": str(int(which is not None)),
        "height": str(image.height),
        "name": feature.name,
        "width": str(image.width),
        "colorspace": space,
        "isColor": str(int(space not in _COLORS)),
        "type": "Image",
        "shortDescription": feature.shortDescription,
        "isOptional": _optional(feature),
        "formattedType": f"Image ({color} {image.width} × {image.height})",
    }
    if which is not None:
        sizes = [image.imageSizeRange.widthRange, image.imageSizeRange.heightRange]
        entry["sizeRange"] = str([[size.lowerBound, size.upperBound] for size in sizes])
        entry["sizeFlexibility"] = " × ".join(_range(size.lowerBound, size.upperBound) for size in sizes)
    return entry


def _dictionary(feature: Model_pb2.FeatureDescription) -> Entry:
    keys = "String" if feature.type.dictionaryType.WhichOneof("KeyType") == "stringKeyType" else "Int64"
    entry = {"isOptional": _optional(feature), "keyType": keys}
    return entry | _plain(feature, "Dictionary", f"Dictionary ({keys} → Double)")


def _number(title: str) -> Callable[[Model_pb2.FeatureDescription], Entry]:
    return lambda feature: {"isOptional": _optional(feature)} | _plain(feature, title, title)


def _plain(feature: Model_pb2.FeatureDescription, title: str, formatted: str) -> Entry:
    return {
        "type": title,
        "formattedType": formatted,
        "name": feature.name,
        "shortDescription": feature.shortDescription,
    }


_BY_KIND: dict[str, Callable[[Model_pb2.FeatureDescription], Entry]] = {
    "multiArrayType": _array,
    "stateType": _state,
    "imageType": _image,
    "dictionaryType": _dictionary,
    "int64Type": _number("Int64"),
    "doubleType": _number("Double"),
    "stringType": _number("String"),
}


def _array_type(array: FeatureTypes_pb2.ArrayFeatureType, name: str) -> str:
    if array.dataType not in _ARRAYS:
        raise MilError(f"feature {name!r}: array type {array.dataType} is not one of Core ML")
    return _ARRAYS[array.dataType]


def _joined(element: str, shape: list[int]) -> str:
    return f"{element} {' × '.join(map(str, shape))}".rstrip()


def _optional(feature: Model_pb2.FeatureDescription) -> str:
    return str(int(feature.type.isOptional))


def _range(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"{low}..." if high < 0 else f"{low}...{high}"
