"""Random JSON schemas of what fathom enforces, for serve-schema.py. Standard library only.

Every schema is satisfiable. Strings are mostly, arrays always bounded: models that write nonsense at temperature 1
would otherwise rarely come to an end, and what they did not end says nothing.
"""
import string

PATTERNS = ["^[a-z]{2,6}$", "^[A-Z][a-z]{1,7}( [A-Z][a-z]{1,7})?$", "^\\d{3}-\\d{4}$", "^(red|green|blue)-[0-9a-f]{2}$",
            "^v\\d{1,2}\\.\\d{1,2}(\\.\\d{1,2})?$", "^[^\"\\\\]{1,8}$", "^(ab|ba){1,4}$", "^\\w{1,6}@\\w{1,6}$",
            "^[α-ω]{1,4}$", "^a?b*c{1,3}$", "^\\s?x\\s?$", "^[\\u4e00-\\u4e20]{1,3}$"]
FORMATS = ["date", "time", "date-time", "email", "ipv4", "uuid"]
NAMES = ["id", "name", "tags", "a b", "größe", "x\"y", "value", "n", "list", "is_ok", "kind", "born", "路径", "back\\slash"]
CONSTANTS = [None, True, False, 0, -7, 3.5, 1e20, "", "word", "two words", "quote \" and \\", "línea\n", "日本", [1, "a"],
             [], {"k": [None]}, {}]


class Schemas:
    """Makes schemas from a random.Random; `features` counts the keywords that it used."""

    def __init__(self, rng):
        self.rng, self.features = rng, {}

    def one(self):
        """A whole schema: mostly an object, with $defs where a $ref was drawn."""
        self.definitions = {}
        top = self.object_schema(3) if self.rng.random() < 0.8 else self.any_schema(3)
        if self.definitions:
            top = {**top, "$defs": self.definitions}
        self.count(top)
        return top

    def count(self, schema):
        if isinstance(schema, dict):
            for key, value in schema.items():
                if key in ("properties", "$defs", "patternProperties"):
                    self.features[key] = self.features.get(key, 0) + 1
                    for child in value.values():
                        self.count(child)
                elif key not in ("enum", "const", "required"):
                    self.features[key] = self.features.get(key, 0) + 1
                    self.count(value)
                else:
                    self.features[key] = self.features.get(key, 0) + 1
        elif isinstance(schema, list):
            for child in schema:
                self.count(child)

    def any_schema(self, depth):
        leaves = [self.string_schema, self.integer_schema, self.number_schema, self.fixed_schema, self.type_list_schema]
        nested = [self.object_schema, self.array_schema, self.any_of_schema, self.all_of_schema, self.ref_schema]
        make = self.rng.choice(nested if depth > 0 and self.rng.random() < 0.5 else leaves)
        return make(depth - 1)

    def string_schema(self, _):
        r = self.rng.random()
        if r < 0.3:
            return {"type": "string", "pattern": self.rng.choice(PATTERNS)}
        if r < 0.55:
            return {"type": "string", "format": self.rng.choice(FORMATS)}
        low = self.rng.randrange(4)
        schema = {"type": "string", "maxLength": low + self.rng.randrange(12)}
        return {**schema, "minLength": low} if low else schema

    def integer_schema(self, _):
        low = self.rng.randrange(-1000, 1000)
        schema = {"type": "integer"}
        r = self.rng.random()
        if r < 0.7:
            schema[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if r < 0.5 or r > 0.85:
            schema[self.rng.choice(["maximum", "exclusiveMaximum"])] = low + self.rng.choice([20, 77, 1000, 10**9])
        if self.rng.random() < 0.2:
            schema["multipleOf"] = self.rng.choice([2, 3, 5, 7])
        return schema

    def number_schema(self, _):
        low = round(self.rng.uniform(-100, 100), self.rng.randrange(4))
        schema = {"type": "number"}
        if self.rng.random() < 0.6:
            schema[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.6:
            schema[self.rng.choice(["maximum", "exclusiveMaximum"])] = round(low + self.rng.uniform(0.5, 500), 3)
        return schema

    def fixed_schema(self, _):
        r = self.rng.random()
        if r < 0.6:
            return {"enum": self.rng.sample(CONSTANTS, self.rng.randrange(1, 6))}
        return {"const": self.rng.choice(CONSTANTS)} if r < 0.8 else {"type": self.rng.choice(["boolean", "null"])}

    def type_list_schema(self, _):
        schema = {"type": self.rng.sample(["string", "integer", "boolean", "null"], self.rng.randrange(2, 4))}
        return {**schema, "maxLength": 9} if "string" in schema["type"] else schema

    def object_schema(self, depth):
        names = self.rng.sample(NAMES, self.rng.randrange(1, 6))
        schema = {"type": "object", "properties": {n: self.any_schema(depth) for n in names}}
        required = [n for n in names if self.rng.random() < 0.6]
        if required:
            schema["required"] = required
        r = self.rng.random()
        if r < 0.5:
            schema["additionalProperties"] = False
            if len(required) < len(names) and self.rng.random() < 0.4:
                if self.rng.random() < 0.5:
                    schema["minProperties"] = max(1, len(required))  # see grammar/json_schema.h: all else is refused
                else:
                    schema["maxProperties"] = len(names)
        return schema

    def array_schema(self, depth):
        low = self.rng.randrange(3)
        schema = {"type": "array", "maxItems": low + self.rng.randrange(4)}
        if low:
            schema["minItems"] = low
        if self.rng.random() < 0.25:
            schema["prefixItems"] = [self.any_schema(depth) for _ in range(self.rng.randrange(1, 3))]
        return {**schema, "items": self.any_schema(depth)}

    def any_of_schema(self, depth):
        if self.rng.random() < 0.3:  # options that exclude each other
            return {"oneOf": [{"type": "string", "maxLength": 6}, self.integer_schema(depth), {"type": "null"}]}
        return {"anyOf": [self.any_schema(depth) for _ in range(self.rng.randrange(2, 4))]}

    def all_of_schema(self, depth):
        low = self.rng.randrange(50)
        parts = [{"type": "object", "properties": {"p": self.any_schema(depth)}, "required": ["p"]},
                 {"type": "object", "properties": {"q": {"type": "integer", "minimum": low}}}]
        return {"allOf": parts} if self.rng.random() < 0.6 else {
            "allOf": [{"type": "integer", "minimum": low}, {"maximum": low + 30}]}

    def ref_schema(self, depth):
        if self.definitions and self.rng.random() < 0.4:
            return {"$ref": "#/$defs/" + self.rng.choice(sorted(self.definitions))}
        name = self.rng.choice(string.ascii_lowercase) + str(len(self.definitions))
        if self.rng.random() < 0.5:  # a chain or tree that refers to itself, and may stop
            again = {"$ref": f"#/$defs/{name}"}
            step = self.rng.choice([{"anyOf": [{"type": "null"}, again]}, {"type": "array", "maxItems": 1, "items": again}])
            self.definitions[name] = {"type": "object", "properties": {"v": self.integer_schema(0), "next": step},
                                      "required": ["v"], "additionalProperties": False}
        else:
            self.definitions[name] = {}  # taken, before what it is made of takes names
            self.definitions[name] = self.any_schema(min(depth, 1))
        return {"$ref": f"#/$defs/{name}"}
