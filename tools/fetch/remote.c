/* The table of data sets that can be downloaded.
 *
 * Sizes and SHA-256 of all archives: TensorFlow Datasets, tensorflow_datasets/url_checksums/{cifar10,cifar100,mnist,
 * fashion_mnist}.txt (https://github.com/tensorflow/datasets). Those of the CIFAR archives also stand in
 * torchvision-ruby and gomlx, those of Fashion-MNIST beside the MD5s that its authors publish. Sizes of the unpacked
 * files follow from the formats: CIFAR-10 3073 bytes an image, CIFAR-100 3074, idx 16 or 8 bytes and then 784 or 1 an
 * image. A mirror need not be trusted: what it sends must have the SHA-256. */
#include "tools/fetch/remote.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const qe_remote_file cifar10_files[] = {
    {"data_batch_1.bin", 30730000}, {"data_batch_2.bin", 30730000}, {"data_batch_3.bin", 30730000},
    {"data_batch_4.bin", 30730000}, {"data_batch_5.bin", 30730000}, {"test_batch.bin", 30730000},
    {"batches.meta.txt", 0},
};
static const qe_remote_file cifar100_files[] = {
    {"train.bin", 153700000}, {"test.bin", 30740000}, {"coarse_label_names.txt", 0}, {"fine_label_names.txt", 0}};
static const qe_remote_file train_images = {"train-images-idx3-ubyte", 47040016};
static const qe_remote_file train_labels = {"train-labels-idx1-ubyte", 60008};
static const qe_remote_file test_images = {"t10k-images-idx3-ubyte", 7840016};
static const qe_remote_file test_labels = {"t10k-labels-idx1-ubyte", 10008};

/* clang-format off */
static const qe_remote_archive cifar10_archives[] = {
    {"cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
     "cifar-10-batches-bin", cifar10_files, COUNT(cifar10_files)},
};
static const qe_remote_archive cifar100_archives[] = {
    {"cifar-100-binary.tar.gz", 168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
     "cifar-100-binary", cifar100_files, COUNT(cifar100_files)},
};
static const qe_remote_archive mnist_archives[] = {
    {"train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", NULL, &train_images, 1},
    {"train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", NULL, &train_labels, 1},
    {"t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", NULL, &test_images, 1},
    {"t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", NULL, &test_labels, 1},
};
static const qe_remote_archive fashion_archives[] = {
    {"train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", NULL, &train_images, 1},
    {"train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", NULL, &train_labels, 1},
    {"t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", NULL, &test_images, 1},
    {"t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", NULL, &test_labels, 1},
};
/* clang-format on */

#define TORONTO "https://www.cs.toronto.edu/~kriz/"
#define MINDSPORE "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"

static const char *const cifar10_addresses[] = {
    TORONTO, "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/", MINDSPORE, NULL};
static const char *const cifar100_addresses[] = {TORONTO, MINDSPORE, NULL};
static const char *const mnist_addresses[] = {"https://storage.googleapis.com/cvdf-datasets/mnist/",
                                              "https://ossci-datasets.s3.amazonaws.com/mnist/", NULL};
static const char *const fashion_addresses[] = {
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", NULL};

static const qe_remote sets[] = {
    {"cifar10", "cifar-10-batches-bin", "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
     cifar10_addresses, cifar10_archives, COUNT(cifar10_archives)},
    {"cifar100", "cifar-100-binary", "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
     cifar100_addresses, cifar100_archives, COUNT(cifar100_archives)},
    {"mnist", "mnist", "Y. LeCun, C. Cortes, C. Burges, The MNIST Database of Handwritten Digits, 1998",
     mnist_addresses, mnist_archives, COUNT(mnist_archives)},
    {"fashion-mnist", "fashion-mnist", "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
     fashion_addresses, fashion_archives, COUNT(fashion_archives)},
};

const qe_remote *qe_remotes(size_t *count) {
  *count = COUNT(sets);
  return sets;
}

const qe_remote *qe_remote_find(const char *name) {
  for (size_t at = 0; at < COUNT(sets); at++)
    if (strcmp(sets[at].name, name) == 0) return &sets[at];
  return NULL;
}

int64_t qe_remote_archive_bytes(const qe_remote *of) {
  int64_t bytes = 0;
  for (int at = 0; at < of->archive_count; at++) bytes += of->archives[at].bytes;
  return bytes;
}

int64_t qe_remote_file_bytes(const qe_remote *of) {
  int64_t bytes = 0;
  for (int at = 0; at < of->archive_count; at++)
    for (int file = 0; file < of->archives[at].file_count; file++) bytes += of->archives[at].files[file].bytes;
  return bytes;
}
