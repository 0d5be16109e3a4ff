/* Readers of the CIFAR-10 and CIFAR-100 binary files and of the subset of CIFAR-10 that is built in. */
#ifndef QE_DATA_CIFAR_H
#define QE_DATA_CIFAR_H

#include "core/data/dataset.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_CIFAR10_CLASSES = 10, QE_CIFAR100_CLASSES = 100, QE_CIFAR_SIDE = 32, QE_CIFAR_CHANNELS = 3 };

/* data_batch_1.bin to data_batch_5.bin and test_batch.bin of `folder`, each a whole number of records, at least one. */
QE_CHECKED qe_status qe_cifar10_read(const char *folder, qe_dataset *dataset);
/* train.bin and test.bin of `folder`, with the 100 fine classes. */
QE_CHECKED qe_status qe_cifar100_read(const char *folder, qe_dataset *dataset);

/* 1,000 training and 500 test images, the classes in turn, decoded from the mosaics in the library. */
QE_CHECKED qe_status qe_cifar10_read_subset(qe_dataset *dataset);

#ifdef __cplusplus
}
#endif
#endif
