// The transposed convolution and its gradients in bf16, of maps that are stored so.
#include "conv_transpose_mma_kernels.cuh"

CONV_TRANSPOSE_FORMAT(bf16, Bf16)
