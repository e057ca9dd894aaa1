"""Service definitions in a form that protobuf, Thrift and `kitmsg export` share.

model.py    `ServiceShapes`, `Method`, `Struct`, `Enum`, `Union`: the tree; `KINDS`,
the table of types
service.py  `shape_service`: from the schemas of all endpoints to one tree
reader.py   from one JSON Schema to shapes
naming.py   identifiers for generated code
numbers.py  `Numbers`: field numbers for as long as a gateway runs
choice.py   `chooser`: which option of a union a value is
declarer.py `Declarer`: names and numbers of declarations
lock.py     `Lock`: field numbers in a file, so that no release moves one
generated.py  `Generator`: services on the bus in the form of an IDL
binding.py  names of a user's IDL bound to those of a live schema
"""
