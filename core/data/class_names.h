/* The names of the classes of CIFAR and MNIST. */
#ifndef QE_DATA_CLASS_NAMES_H
#define QE_DATA_CLASS_NAMES_H

#include "core/data/cifar.h"
#include "core/data/idx.h"

extern const char *const qe_cifar10_classes[QE_CIFAR10_CLASSES];
extern const char *const qe_cifar100_classes[QE_CIFAR100_CLASSES]; /* the fine ones */
extern const char *const qe_mnist_classes[QE_MNIST_CLASSES];
extern const char *const qe_fashion_mnist_classes[QE_MNIST_CLASSES];

#endif
