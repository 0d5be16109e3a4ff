/* CIFAR records. The first byte chooses the data set: even CIFAR-100, odd CIFAR-10; the others are each of its files.
 */
#include "core/data/cifar.h"
#include "core/base/file.h"
#include "tests/fuzz/fuzz.h"

#include <unistd.h>

/* One file under all names. */
static void make_names(void) {
  static const char *const names[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                                      "data_batch_5.bin", "test_batch.bin",   "train.bin",        "test.bin"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) FUZZ_REQUIRE(symlink("records", fuzz_path(names[i])) == 0);
}

static void check(const int32_t *labels, int images, int classes) {
  for (int i = 0; i < images; i++) FUZZ_REQUIRE(labels[i] >= 0 && labels[i] < classes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  if (!qe_file_exists(fuzz_path("records"))) make_names();
  fuzz_write(fuzz_path("records"), data + 1, size - 1);
  qe_dataset *dataset = calloc(1, sizeof *dataset);
  FUZZ_REQUIRE(dataset);
  bool small = data[0] & 1;
  *dataset = (qe_dataset){.classes = small ? QE_CIFAR10_CLASSES : QE_CIFAR100_CLASSES,
                          .height = QE_CIFAR_SIDE,
                          .width = QE_CIFAR_SIDE,
                          .channels = QE_CIFAR_CHANNELS};
  if ((small ? qe_cifar10_read : qe_cifar100_read)(fuzz_folder(), dataset) == QE_OK) {
    check(dataset->train_labels, dataset->train_images, dataset->classes);
    check(dataset->test_labels, dataset->test_images, dataset->classes);
  }
  qe_dataset_free(dataset);
  return 0;
}
