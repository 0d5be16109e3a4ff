/* Readers of MNIST and its look-alikes: idx files of images and labels, as they are or compressed by gzip.
 * Source: http://yann.lecun.com/exdb/mnist, "The idx file format". */
#ifndef QE_DATA_IDX_H
#define QE_DATA_IDX_H

#include "core/data/dataset.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_MNIST_CLASSES = 10, QE_MNIST_SIDE = 28 };

/* train-images, train-labels, t10k-images and t10k-labels of `folder`: each as NAME-idx3-ubyte (labels: idx1) or with a
 * dot before idx, plain or with .gz behind; the plain file wins. */
QE_CHECKED qe_status qe_mnist_read(const char *folder, qe_dataset *dataset);
QE_CHECKED qe_status qe_fashion_mnist_read(const char *folder, qe_dataset *dataset);

/* An idx array of bytes; only these are read. */
typedef struct qe_idx {
  int dims; /* 1: labels, 3: images */
  uint32_t dim[3];
  uint8_t *values; /* qe_free */
} qe_idx;

/* The idx file that `bytes` are, compressed or not. `dims` is what is expected. Takes no more memory than the bytes can
 * fill. QE_FORMAT names `file` and offset, and no cure. */
QE_CHECKED qe_status qe_idx_parse(const uint8_t *bytes, size_t count, const char *file, int dims, qe_idx *idx);

#ifdef __cplusplus
}
#endif
#endif
