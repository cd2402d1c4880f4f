"""A few lines that write protobuf, so that no test needs onnx or TensorFlow."""


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(field: int, value: int) -> bytes:
    return number(field << 3) + number(value)


def content(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(raw)) + raw


def onnx_node(operator: str, domain: str = "", attributes: bytes = b"") -> bytes:
    body = content(1, "x") + content(2, "y") + content(3, "node") + content(4, operator)
    return body + attributes + (content(7, domain) if domain else b"")


def onnx_tensor(dims: list[int], location: str | None = None, raw: bytes = b"") -> bytes:
    body = b"".join(integer(1, size) for size in dims) + integer(2, 1) + content(8, "w")
    if location is None:
        return body + content(9, raw)
    return body + content(13, content(1, "location") + content(2, location)) + integer(14, 1)


def onnx_model(*nodes: bytes, tensors: tuple[bytes, ...] = (), more: bytes = b"") -> bytes:
    graph = b"".join(content(1, node) for node in nodes) + content(2, "graph")
    graph += b"".join(content(5, tensor) for tensor in tensors)
    opset = content(1, "") + integer(2, 17)
    return integer(1, 8) + content(2, "test") + content(7, graph) + content(8, opset) + more


def tf_node(name: str, operator: str, *inputs: str, attributes: bytes = b"") -> bytes:
    body = content(1, name) + content(2, operator)
    return body + b"".join(content(3, text) for text in inputs) + attributes


def tf_attribute(name: str, value: bytes) -> bytes:
    return content(5, content(1, name) + content(2, value))


def tf_text(name: str, value: str) -> bytes:
    """A constant."""
    return tf_node(name, "Const", attributes=tf_attribute("value", content(8, content(8, value))))


def tf_call(name: str, function: str, *inputs: str) -> bytes:
    called = tf_attribute("f", content(10, content(1, function)))
    return tf_node(name, "StatefulPartitionedCall", *inputs, attributes=called)


def tf_function(name: str, *nodes: bytes, arguments: tuple[str, ...] = ()) -> bytes:
    signature = content(1, name) + b"".join(content(2, content(1, one)) for one in arguments)
    return content(1, signature) + b"".join(content(3, node) for node in nodes)


def tf_graph(*nodes: bytes, functions: tuple[bytes, ...] = ()) -> bytes:
    library = b"".join(content(1, function) for function in functions)
    return b"".join(content(1, node) for node in nodes) + content(2, library)


def saved_model(graph: bytes, more: bytes = b"") -> bytes:
    return integer(1, 1) + content(2, content(2, graph) + more)
