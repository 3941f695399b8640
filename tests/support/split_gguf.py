"""Splits a GGUF file into shards, as ``llama-gguf-split`` does.

python tests/support/split_gguf.py MODEL DIR [SHARDS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf


def split(model: Path, directory: Path, shards: int = 2) -> list[Path]:
    """Writes the model's shards into ``directory``; the metadata is all in the first."""
    directory.mkdir(exist_ok=True)
    reader = gguf.GGUFReader(model)
    each = -(-len(reader.tensors) // shards)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(directory / model.name, architecture, split_max_tensors=each)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind, *items = field.types
            writer.add_key_value(name, field.contents(), kind, items[-1] if items else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(directory.glob(f"{model.stem}-*-of-*.gguf"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case [model, directory, *count]:
            for shard in split(Path(model), Path(directory), *map(int, count)):
                print(f"{shard}  {shard.stat().st_size / 1e6:.1f} MB")
        case _:
            sys.exit(__doc__)
