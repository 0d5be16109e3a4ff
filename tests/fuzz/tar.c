/* Tar shards: images lie within the shard, labels within the classes; and what lies there is handed to the decoder. */
#include "core/data/image.h"
#include "core/data/image_list.h"
#include "tests/fuzz/fuzz.h"

static void check_entry(const qe_image_list *list, size_t at, const qe_class_names *classes, const uint8_t *data,
                        size_t size) {
  const qe_image_entry *entry = &list->entry[at];
  qe_decoder *decoder;
  qe_image_info info;
  char name[256];
  FUZZ_REQUIRE(entry->offset <= size && entry->bytes <= size - entry->offset);
  FUZZ_REQUIRE(entry->label >= 0 && entry->label < classes->count);
  FUZZ_REQUIRE(entry->inner < list->texts.count && entry->file < list->texts.count);
  qe_image_list_name(list, at, name, sizeof name);
  FUZZ_REQUIRE(qe_decoder_new(&decoder) == QE_OK);
  (void)!qe_image_size(decoder, data + entry->offset, entry->bytes, name, &info);
  qe_decoder_free(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_class_names classes = {0};
  qe_image_list list = {0};
  if (qe_image_list_add_tar(data, size, "input", &classes, &list) == QE_OK &&
      qe_class_names_close(&classes, &list) == QE_OK)
    for (size_t i = 0; i < list.count; i++) check_entry(&list, i, &classes, data, size);
  qe_image_list_free(&list);
  qe_class_names_free(&classes);
  return 0;
}
