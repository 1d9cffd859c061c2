// The transposed convolution and its gradients in TF32.
#include "conv_transpose_mma_kernels.cuh"

CONV_TRANSPOSE_FORMAT(tf32, Tf32)
