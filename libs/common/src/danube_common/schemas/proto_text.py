"""Reads ``.proto`` files: the text of one file to its descriptor, as protoc would make it.

Of options only ``packed``, ``default``, ``allow_alias`` and ``deprecated`` count; services and extensions are
read over. Editions and groups are refused, as are imports beyond ``google/protobuf/``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from danube_common.errors import InvalidInput

DECLARATIONS_MAX: Final = 10_000
"""Messages, fields, enums and their values within one file."""
NESTING_MAX: Final = 32
"""Messages within each other, and braces of what is read over."""
FILE_NAME: Final = "schema.proto"
WELL_KNOWN: Final = "google/protobuf/"

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>[{}\[\]()<>;=,.+\-:/])""",
    re.VERBOSE | re.DOTALL,
)
_NUMBERS: Final = "double float int64 uint64 int32 fixed64 fixed32 uint32 sfixed32 sfixed64 sint32 sint64"
_SCALARS: Final = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in (*_NUMBERS.split(), "bool", "string", "bytes")
}
_LABELS: Final = {
    "optional": FieldDescriptorProto.LABEL_OPTIONAL,
    "required": FieldDescriptorProto.LABEL_REQUIRED,
    "repeated": FieldDescriptorProto.LABEL_REPEATED,
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_NUMBER_MAX: Final = (1 << 29) - 1
_ENUM_MAX: Final = (1 << 31) - 1

Scoped = TypeVar("Scoped", DescriptorProto, FileDescriptorProto)


def read_proto(text: str, imported: Callable[[str], FileDescriptorProto]) -> FileDescriptorProto:
    """Return the descriptor of a file.

    Args:
        text: the file.
        imported: returns the descriptor of an imported file; raises InvalidInput.

    Raises:
        InvalidInput: says what is wrong, and in which line.
    """
    parser = _Parser(text)
    file = parser.file()
    known = dict(_declared(file, f".{file.package}" if file.package else ""))
    for name in file.dependency:
        other = imported(name)
        known.update(_declared(other, f".{other.package}" if other.package else ""))
    for field, scope in parser.references:
        _resolve(field, scope, known)
    return file


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._declarations = 0
        self._proto3 = False
        self.references: list[tuple[FieldDescriptorProto, str]] = []

    # Tokens

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at][0] if at < len(self._tokens) else ""

    def _next(self) -> str:
        word = self._peek()
        if not word:
            raise InvalidInput("the Protobuf schema is not valid: it ends too early")
        self._at += 1
        return word

    def _take(self, wanted: str) -> bool:
        if self._peek() != wanted:
            return False
        self._at += 1
        return True

    def _expect(self, wanted: str) -> None:
        if not self._take(wanted):
            raise self._wrong(f"{wanted!r} is expected")

    def _wrong(self, why: str) -> InvalidInput:
        line = self._tokens[min(self._at, len(self._tokens) - 1)][1] if self._tokens else 1
        if self._at >= len(self._tokens):
            why = "it ends too early"
        found = f", not {self._peek()[:40]!r}" if "expected" in why else ""
        return InvalidInput(f"the Protobuf schema is not valid: line {line}: {why}{found}")

    def _identifier(self) -> str:
        word = self._peek()
        if not word or not (word[0].isalpha() or word[0] == "_"):
            raise self._wrong("a name is expected")
        return self._next()

    def _name(self) -> str:
        """Read a name with dots, a leading one too."""
        name = "." if self._take(".") else ""
        name += self._identifier()
        while self._take("."):
            name += f".{self._identifier()}"
        return name

    def _integer(self, limit: int, lowest: int) -> int:
        sign = -1 if self._take("-") else 1
        try:
            value = sign * int(self._peek(), 8 if _is_octal(self._peek()) else 0)
        except ValueError:
            raise self._wrong("an integer is expected") from None
        if not lowest <= value <= limit:
            raise self._wrong(f"{value} is not between {lowest} and {limit}")
        self._next()
        return value

    def _string(self) -> str:
        if not self._peek().startswith(("'", '"')):
            raise self._wrong("a string is expected")
        return _unquoted(self._next())

    def _count(self) -> None:
        self._declarations += 1
        if self._declarations > DECLARATIONS_MAX:
            raise InvalidInput(f"the Protobuf schema has more than {DECLARATIONS_MAX} declarations")

    # The grammar

    def file(self) -> FileDescriptorProto:
        file = FileDescriptorProto(name=FILE_NAME)
        if self._peek() == "edition":
            raise self._wrong("editions are not supported, use proto2 or proto3")
        if self._take("syntax"):
            self._expect("=")
            syntax = self._string()
            if syntax not in ("proto2", "proto3"):
                raise self._wrong("the syntax is neither proto2 nor proto3")
            self._proto3 = syntax == "proto3"
            if self._proto3:
                file.syntax = syntax
            self._expect(";")
        while self._peek():
            self._file_element(file)
        return file

    def _file_element(self, file: FileDescriptorProto) -> None:
        match self._next():
            case ";":
                pass
            case "package":
                file.package = self._name()
                self._expect(";")
            case "import":
                if not self._take("public"):
                    self._take("weak")
                file.dependency.append(self._string())
                self._expect(";")
            case "message":
                # References are resolved from the inside out, beginning with the scope of the message itself.
                self._message(file.message_type.add(), f".{file.package}" if file.package else "", 1)
            case "enum":
                self._enum(file.enum_type.add())
            case "option" | "service" | "extend":
                self._read_over()
            case _:
                self._at -= 1
                raise self._wrong("a declaration is expected")

    def _message(self, message: DescriptorProto, scope: str, depth: int) -> None:
        self._count()
        if depth > NESTING_MAX:
            raise self._wrong(f"messages are nested deeper than {NESTING_MAX}")
        message.name = self._identifier()
        inside = f"{scope}.{message.name}"
        self._expect("{")
        while not self._take("}"):
            self._message_element(message, inside, depth)
        for field in message.field:
            taken = any(part.start <= field.number < part.end for part in message.reserved_range)
            if taken or field.name in message.reserved_name:
                raise self._wrong(f"{message.name}.{field.name} has a reserved name or number")
        self._add_synthetic_oneofs(message)

    def _message_element(self, message: DescriptorProto, scope: str, depth: int) -> None:
        word, following = self._peek(), self._tokens[self._at + 1 : self._at + 3]
        # A type or field may have the name of a keyword; then it is not followed as the keyword would be.
        then = [each[0] for each in following]
        declares = len(then) == 2 and then[1] == "{"
        if word == ";":
            self._next()
        elif word == "message" and declares:
            self._next()
            self._message(message.nested_type.add(), scope, depth + 1)
        elif word == "enum" and declares:
            self._next()
            self._enum(message.enum_type.add())
        elif word == "oneof" and declares:
            self._next()
            self._oneof(message, scope)
        elif word == "option" or (word in ("extensions", "extend") and then[1:] != ["="]):
            self._read_over()
        elif word == "reserved" and then[1:] != ["="]:
            self._next()
            self._reserved(message)
        elif word == "map" and then[:1] == ["<"]:
            self._map(message, scope)
        else:
            self._field(message, scope, in_oneof=False)

    def _field(self, message: DescriptorProto, scope: str, *, in_oneof: bool) -> FieldDescriptorProto:
        self._count()
        field = message.field.add()
        label = self._peek() if self._peek() in _LABELS and self._peek(1) != "=" else ""
        if label:
            self._next()
        if label and in_oneof:
            raise self._wrong("a field of a oneof has no label")
        if label == "required" and self._proto3:
            raise self._wrong("proto3 has no required fields")
        if not label and not self._proto3 and not in_oneof:
            raise self._wrong("a label is expected: optional, required or repeated")
        field.label = _LABELS[label or "optional"]
        if label == "optional" and self._proto3:
            field.proto3_optional = True
        if self._peek() == "group":
            raise self._wrong("groups are not supported")
        self._type(field, scope)
        field.name = self._identifier()
        self._expect("=")
        field.number = self._integer(_NUMBER_MAX, 1)
        self._options(field)
        self._expect(";")
        return field

    def _type(self, field: FieldDescriptorProto, scope: str) -> None:
        name = self._name()
        if name in _SCALARS:
            field.type = _SCALARS[name]
        else:
            field.type_name = name
            self.references.append((field, scope))

    def _map(self, message: DescriptorProto, scope: str) -> None:
        self._count()
        self._expect("map")
        self._expect("<")
        entry = DescriptorProto()
        entry.options.map_entry = True
        key = entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL)
        self._type(key, scope)
        self._expect(",")
        field = message.field.add(label=FieldDescriptorProto.LABEL_REPEATED)
        nested = message.nested_type.add()
        value = entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL)
        self._type(value, scope)
        unresolved = [given for given, _ in self.references[-2:] if given in (key, value)]
        self._expect(">")
        field.name = self._identifier()
        self._expect("=")
        field.number = self._integer(_NUMBER_MAX, 1)
        self._options(field)
        self._expect(";")
        entry.name = f"{''.join(part[:1].upper() + part[1:] for part in field.name.split('_'))}Entry"
        nested.CopyFrom(entry)
        if unresolved:  # the reference is to the copy
            self.references = [each for each in self.references if each[0] not in (key, value)]
            self.references += [(each, scope) for each in nested.field if each.type_name]
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f"{scope}.{entry.name}"

    def _oneof(self, message: DescriptorProto, scope: str) -> None:
        message.oneof_decl.add(name=self._identifier())
        index = len(message.oneof_decl) - 1
        self._expect("{")
        while not self._take("}"):
            if self._peek() == "option" and self._peek(2) != "=":
                self._read_over()
            elif not self._take(";"):
                self._field(message, scope, in_oneof=True).oneof_index = index

    def _add_synthetic_oneofs(self, message: DescriptorProto) -> None:
        taken = {each.name for each in message.oneof_decl} | {each.name for each in message.field}
        for field in message.field:
            if field.proto3_optional:
                name = f"_{field.name}"
                while name in taken:
                    name = f"X{name}"
                taken.add(name)
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=name)

    def _reserved(self, message: DescriptorProto) -> None:
        while True:
            if self._peek().startswith(("'", '"')):
                message.reserved_name.append(self._string())
            else:
                start, end = self._range(_NUMBER_MAX, 1)
                message.reserved_range.add(start=start, end=end + 1)
            if not self._take(","):
                break
        self._expect(";")

    def _range(self, limit: int, lowest: int) -> tuple[int, int]:
        start = self._integer(limit, lowest)
        if not self._take("to"):
            return start, start
        return start, limit if self._take("max") else self._integer(limit, lowest)

    def _enum(self, enum: EnumDescriptorProto) -> None:
        self._count()
        enum.name = self._identifier()
        self._expect("{")
        while not self._take("}"):
            following = self._peek(1)
            if self._take(";"):
                continue
            if self._peek() == "option" and following != "=":
                if self._tokens[self._at + 1 : self._at + 2] and following == "allow_alias":
                    enum.options.allow_alias = self._peek(3) == "true"
                self._read_over()
            elif self._peek() == "reserved" and following != "=":
                self._next()
                self._reserved_values(enum)
            else:
                self._count()
                value = enum.value.add(name=self._identifier())
                self._expect("=")
                value.number = self._integer(_ENUM_MAX, -_ENUM_MAX - 1)
                if self._peek() == "[":
                    self._read_over(until="]")
                self._expect(";")

    def _reserved_values(self, enum: EnumDescriptorProto) -> None:
        while True:
            if self._peek().startswith(("'", '"')):
                enum.reserved_name.append(self._string())
            else:
                start, end = self._range(_ENUM_MAX, -_ENUM_MAX - 1)
                enum.reserved_range.add(start=start, end=end)
            if not self._take(","):
                break
        self._expect(";")

    def _options(self, field: FieldDescriptorProto) -> None:
        if not self._take("["):
            return
        while True:
            name = "" if self._peek() == "(" else self._identifier()
            if name in ("packed", "default", "deprecated") and self._take("="):
                value = self._constant()
                if name == "default":
                    field.default_value = value
                else:
                    setattr(field.options, name, value == "true")
            else:
                self._read_over(until=",]")
            if self._take(","):
                continue
            self._expect("]")
            return

    def _constant(self) -> str:
        sign = self._next() if self._peek() in ("-", "+") else ""
        word = self._next()
        if not word.startswith(("'", '"')):
            with contextlib.suppress(ValueError):
                word = str(int(word, 8 if _is_octal(word) else 0))
            return sign + word if sign != "+" else word
        text = _unquoted(word)
        while self._peek().startswith(("'", '"')):
            text += self._string()
        return text

    def _read_over(self, until: str = "") -> None:
        """Read to the end of a statement: its ``;``, or the brace that closes its block."""
        depth = 0
        while True:
            word = self._peek()
            if until and depth == 0 and word and word in until:
                if until == "]":
                    self._next()
                return
            self._next()
            if word in ("{", "[", "(") and not (until == "]" and depth == 0 and word == "["):
                depth += 1
            elif word in ("}", "]", ")"):
                depth -= 1
                if depth == 0 and word == "}" and not until:
                    self._take(";")
                    return
            elif word == ";" and depth == 0:
                return
            if depth < 0 or depth > NESTING_MAX:
                raise self._wrong("braces are not closed, or too deep")


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidInput(f"the Protobuf schema is not valid: line {line}: {text[at]!r} is not expected")
        if match.lastgroup != "space":
            yield match[0], line
        line += match[0].count("\n")
        at = match.end()


def _declared(scope: Scoped | DescriptorProto, name: str) -> Iterator[tuple[str, int]]:
    """Yield the full name of each type with the type of a field that refers to it."""
    nested = scope.message_type if isinstance(scope, FileDescriptorProto) else scope.nested_type
    for message in nested:
        yield f"{name}.{message.name}", FieldDescriptorProto.TYPE_MESSAGE
        yield from _declared(message, f"{name}.{message.name}")
    for enum in scope.enum_type:
        yield f"{name}.{enum.name}", FieldDescriptorProto.TYPE_ENUM


def _resolve(field: FieldDescriptorProto, scope: str, known: dict[str, int]) -> None:
    """Give a field the full name of its type, which is searched from the inner scope to the outer ones."""
    given = field.type_name
    candidates = [given] if given.startswith(".") else []
    while not given.startswith("."):
        candidates.append(f"{scope}.{given}")
        if not scope:
            break
        scope = scope.rpartition(".")[0]
    for name in candidates:
        if name in known:
            field.type_name = name
            field.type = FieldDescriptorProto.Type.ValueType(known[name])
            return
    raise InvalidInput(
        f"the Protobuf schema is not valid: the type {given[:80]} of {field.name} is not defined"
    )


def _is_octal(word: str) -> bool:
    return len(word) > 1 and word.isdigit() and word.startswith("0")


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), word[1:-1])
