// 3×3 convolution and the gradient of its inputs in bf16, of maps that are stored so.
#include "conv_mma_kernels.cuh"

CONV3X3_FORMAT(bf16, Bf16, 3)
