// 3×3 convolution and the gradient of its inputs in TF32.
#include "conv_mma_kernels.cuh"

CONV3X3_FORMAT(tf32, Tf32, 4)
