/* Archives for tests, made by hand so that they can hold what no tool would write. */
#ifndef QE_TESTS_ARCHIVES_H
#define QE_TESTS_ARCHIVES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

enum { BLOB = 1 << 22, TAR_BLOCK = 512 };

typedef struct blob {
  unsigned char data[BLOB];
  size_t bytes;
} blob;

/* Append a member: its header with `declared` bytes, then `bytes` of data padded to whole blocks.
 * kind: '0' file, '1' hard link, '2' symbolic link, '3' device, '5' folder. */
static inline void tar_add(blob *tar, char kind, const char *name, const char *target, const void *data, size_t bytes,
                           unsigned long long declared) {
  static const char magic[8] = {'u', 's', 't', 'a', 'r', 0, '0', '0'};
  char header[TAR_BLOCK] = {0};
  unsigned sum = 8 * ' ';
  snprintf(header, 100, "%s", name);
  strcpy(header + 100, "0000644");
  strcpy(header + 108, "0000000");
  strcpy(header + 116, "0000000");
  snprintf(header + 124, 12, "%011llo", declared);
  strcpy(header + 136, "00000000000");
  header[156] = kind;
  if (target) snprintf(header + 157, 100, "%s", target);
  memcpy(header + 257, magic, sizeof magic);
  for (int at = 0; at < TAR_BLOCK; at++) sum += (unsigned char)header[at];
  snprintf(header + 148, 8, "%06o", sum);
  header[155] = ' ';
  assert_true(tar->bytes + 2 * TAR_BLOCK + bytes < BLOB);
  memcpy(tar->data + tar->bytes, header, TAR_BLOCK);
  tar->bytes += TAR_BLOCK;
  if (bytes) memcpy(tar->data + tar->bytes, data, bytes);
  memset(tar->data + tar->bytes + bytes, 0, TAR_BLOCK);
  tar->bytes += (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

static inline void tar_end(blob *tar) {
  assert_true(tar->bytes + 2 * TAR_BLOCK < BLOB);
  memset(tar->data + tar->bytes, 0, 2 * TAR_BLOCK);
  tar->bytes += 2 * TAR_BLOCK;
}

/* Compress by gzip. */
static inline void gzip(const void *data, size_t bytes, blob *out) {
  struct archive *writer = archive_write_new();
  struct archive_entry *entry = archive_entry_new();
  archive_write_add_filter_gzip(writer);
  archive_write_set_format_raw(writer);
  archive_write_set_bytes_per_block(writer, 0);
  assert_int_equal(archive_write_open_memory(writer, out->data, BLOB, &out->bytes), ARCHIVE_OK);
  archive_entry_set_filetype(entry, AE_IFREG);
  assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
  assert_int_equal(archive_write_data(writer, data, bytes), bytes);
  assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
  archive_entry_free(entry);
  archive_write_free(writer);
}

#endif
