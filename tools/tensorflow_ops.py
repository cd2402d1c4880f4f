"""Makes src/modelward/scan/data/allowed_ops.txt: TensorFlow ops that a SavedModel may hold.

An op is allowed where TensorFlow calls it stateless, minus those that reach out of the graph in
spite of it, plus the stateful ones that honest models need (variables, tables, random numbers,
control flow, checkpoints). What stays out is unknown to the scan and therefore suspicious.

    .venv-tf/bin/python tools/tensorflow_ops.py
"""

import re
from pathlib import Path

from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session as session

TARGET = Path(__file__).parents[1] / "src/modelward/scan/data/allowed_ops.txt"
HEADER = """\
# TensorFlow ops that a SavedModel may hold. Made by tools/tensorflow_ops.py; do not edit by hand.
"""
OUT = re.compile(
    r"_.*|.*(Dataset|File|Iterator|PyFunc|Rpc|Remote|Send|Recv|Host|TPU|Xla|Nccl|Collective"
    r"|Session|Reader|Summary|Writer|Debug|Dump|Print|Audio|Wav|Checkpoint|Sql|LMDB|Save|Restore"
    r"|LoadAnd|Custom|Library|Plugin|Python|Delete|Compile|TensorRT|TRT|Proto|Immutable|Test|Namespace>|Tpu).*"
)
"""Kept out whatever TensorFlow says of their state."""
STATEFUL = """
    Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Case CheckNumerics
    CheckNumericsV2 CudnnRNN CudnnRNNV2 CudnnRNNV3 DeviceIndex DisableCopyOnRead Empty HashTable
    HashTableV2 If LookupTableExportV2 LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2
    LookupTableRemoveV2 LookupTableSizeV2 InitializeTableV2 MergeV2Checkpoints Multinomial
    MutableDenseHashTableV2 MutableHashTableOfTensorsV2 MutableHashTableV2
    ParameterizedTruncatedNormal RandomGamma RandomPoisson RandomPoissonV2 RandomShuffle
    RandomStandardNormal RandomUniform RandomUniformInt ReadVariableOp ResourceApplyAdam
    ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterUpdate
    ResourceStridedSliceAssign RestoreV2 RngReadAndSkip RngSkip SampleDistortedBoundingBoxV2
    SaveV2 ShardedFilename StatefulPartitionedCall StatefulRandomBinomial
    StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
    StatefulUniformInt StatelessRandomGetAlg TensorArrayCloseV3 TensorArrayConcatV3
    TensorArrayGatherV3 TensorArrayGradV3 TensorArrayReadV3 TensorArrayScatterV3
    TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TruncatedNormal
    VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2 While
"""


def main() -> None:
    """Read TensorFlow's own list of ops and write the allowed ones."""
    ops = op_def_pb2.OpList()
    ops.ParseFromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    known = {op.name: op for op in ops.op}
    chosen = {name for name, op in known.items() if not op.is_stateful and not OUT.fullmatch(name)}
    extra = set(STATEFUL.split())
    print("no longer known:", *sorted(extra - set(known)))
    chosen |= extra
    TARGET.write_text(HEADER + "\n".join(sorted(chosen)) + "\n")
    print(f"{len(chosen)} of {len(known)} ops")


if __name__ == "__main__":
    main()
