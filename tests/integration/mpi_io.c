// SPDX-License-Identifier: Apache-2.0
// Every rank writes its blocks of one shared file, first all together (MPI_File_write_at_all), then each for
// itself (MPI_File_write_at), then reads the blocks that its neighbour wrote. Block i is filled with (7i+1)%251.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { block_bytes = 65536, rounds = 8 };

static void must(int result, const char* what) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(result, text, &length);
  fprintf(stderr, "%s: %s\n", what, text);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

static int value_of(int block) { return (block * 7 + 1) % 251; }

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  unsigned char* buffer = malloc(block_bytes);
  MPI_File file;
  MPI_Status status;
  must(MPI_File_open(MPI_COMM_WORLD, argv[1], MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &file), "open");
  for (int round = 0; round < rounds; ++round) {
    const int together = round * ranks + rank;
    memset(buffer, value_of(together), block_bytes);
    must(MPI_File_write_at_all(file, (MPI_Offset)together * block_bytes, buffer, block_bytes, MPI_BYTE, &status),
         "write_at_all");
    const int alone = (rounds + round) * ranks + rank;
    memset(buffer, value_of(alone), block_bytes);
    must(MPI_File_write_at(file, (MPI_Offset)alone * block_bytes, buffer, block_bytes, MPI_BYTE, &status),
         "write_at");
  }
  must(MPI_File_sync(file), "sync");
  MPI_Barrier(MPI_COMM_WORLD);
  must(MPI_File_sync(file), "sync");
  int wrong = 0;
  for (int round = 0; round < 2 * rounds; ++round) {
    const int block = round * ranks + (rank + 1) % ranks;
    must(MPI_File_read_at(file, (MPI_Offset)block * block_bytes, buffer, block_bytes, MPI_BYTE, &status), "read_at");
    for (int i = 0; i < block_bytes; ++i) wrong += buffer[i] != value_of(block);
  }
  must(MPI_File_close(&file), "close");
  int total = 0;
  MPI_Allreduce(&wrong, &total, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0 && total == 0) printf("all %d ranks read what was written\n", ranks);
  if (rank == 0 && total != 0) printf("%d bytes are wrong\n", total);
  free(buffer);
  MPI_Finalize();
  return total != 0;
}
