// Files: what is refused, what a failed write leaves behind, what a mapping shows.
#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace fathom {
namespace {

using ::testing::HasSubstr;

class File : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom_file.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }
  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      out.insert(entry.path().filename().string());
    return out;
  }

  std::string directory_;
};

TEST_F(File, ReadsWholeFilesWithEveryByte) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  const auto text = read_file(write("all", bytes), 256);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, bytes);
  const auto empty = read_file(write("empty", ""), 0);
  ASSERT_TRUE(empty);
  EXPECT_EQ(*empty, "");
}

TEST_F(File, ReadingMoreThanTheLimitNamesFileSizeAndLimit) {
  const std::string file = write("big", "12345");
  EXPECT_TRUE(read_file(file, 5));
  const auto refused = read_file(file, 4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceLimit);
  EXPECT_THAT(refused.error().message, HasSubstr(file));
  EXPECT_THAT(refused.error().message, HasSubstr("5 bytes"));
  EXPECT_THAT(refused.error().message, HasSubstr("limit is 4"));
}

TEST_F(File, AMissingFileIsNotFoundAndNamed) {
  for (const Error& error :
       {read_file(path("none"), 10).error(), MappedFile::open(path("none")).error()}) {
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_THAT(error.message, HasSubstr(path("none")));
    EXPECT_THAT(error.message, HasSubstr("No such file"));
  }
}

TEST_F(File, ADirectoryIsRefused) {
  for (const Error& error :
       {read_file(directory_, 10).error(), MappedFile::open(directory_).error()}) {
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.message, HasSubstr("not a regular file"));
  }
}

TEST_F(File, AFifoIsRefusedWithoutWaitingForAWriter) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  ::alarm(10);  // a blocking open would hang the test
  for (const Error& error :
       {read_file(path("fifo"), 10).error(), MappedFile::open(path("fifo")).error()}) {
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.message, HasSubstr("not a regular file"));
  }
  ::alarm(0);
}

TEST_F(File, ADeviceIsRefused) {
  const auto zeros = read_file("/dev/zero", 10);
  ASSERT_FALSE(zeros);
  EXPECT_THAT(zeros.error().message, HasSubstr("not a regular file"));
}

TEST_F(File, ExistenceTellsFilesFromDirectories) {
  const std::string file = write("f", "x");
  EXPECT_TRUE(file_exists(file));
  EXPECT_FALSE(directory_exists(file));
  EXPECT_TRUE(directory_exists(directory_));
  EXPECT_FALSE(file_exists(directory_));
  EXPECT_FALSE(file_exists(path("none")));
  EXPECT_FALSE(directory_exists(path("none")));
}

TEST_F(File, AtomicWriteCreatesAndReplacesAndLeavesNothingElse) {
  ASSERT_TRUE(write_file_atomically(path("f"), "old content"));
  ASSERT_TRUE(write_file_atomically(path("f"), std::string_view("n\0w", 3)));
  const auto text = read_file(path("f"), 100);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, std::string_view("n\0w", 3));
  EXPECT_EQ(names(), std::set<std::string>{"f"});
}

TEST_F(File, AtomicWriteIntoAMissingDirectoryFails) {
  const Status status = write_file_atomically(path("none/f"), "x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(status.error().message, HasSubstr(path("none/f")));
}

TEST_F(File, AtomicWriteOverADirectoryFailsAndCleansUp) {
  ASSERT_EQ(::mkdir(path("d").c_str(), 0700), 0);
  const Status status = write_file_atomically(path("d"), "x");
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("rename"));
  EXPECT_EQ(names(), std::set<std::string>{"d"});
}

// A write that runs out of room in the middle, as on a full disk. In a child process, because the
// limit on file sizes can be lowered but is the whole process's.
TEST_F(File, AFailedAtomicWriteKeepsTheOldContent) {
  ASSERT_TRUE(write_file_atomically(path("f"), "old"));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{8192, 8192};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(3);
    const Status status = write_file_atomically(path("f"), std::string(100'000, 'x'));
    const bool named = !status && status.error().message.find("cannot write") != std::string::npos;
    ::_exit(named ? 0 : 4);
  }
  int child_status = 0;
  ASSERT_EQ(::waitpid(child, &child_status, 0), child);
  EXPECT_EQ(child_status, 0) << "the write should have failed with a message about writing";
  const auto text = read_file(path("f"), 1'000'000);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "old");
  EXPECT_EQ(names(), std::set<std::string>{"f"});
}

// Readers see one of the contents that were written, whole, while threads replace the file.
TEST_F(File, ConcurrentAtomicWritesNeverMix) {
  const auto content = [](int writer) {
    return std::string(static_cast<std::size_t>(20'000 + 1000 * writer),
                       static_cast<char>('a' + writer));
  };
  ASSERT_TRUE(write_file_atomically(path("f"), content(0)));
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      for (int i = 0; i < 25; ++i) EXPECT_TRUE(write_file_atomically(path("f"), content(writer)));
    });
  }
  for (int i = 0; i < 200; ++i) {
    const auto text = read_file(path("f"), 1'000'000);
    ASSERT_TRUE(text) << text.error().message;
    ASSERT_FALSE(text->empty());
    EXPECT_EQ(*text, content(text->front() - 'a'));
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(names(), std::set<std::string>{"f"});
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST_F(File, MapsTheWholeFile) {
  const std::string content(10'000, 'm');
  const auto file = MappedFile::open(write("m", content));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(text_of(*file), content);
  EXPECT_EQ(file->path(), path("m"));
}

TEST_F(File, AnEmptyFileMapsToNoBytes) {
  const auto file = MappedFile::open(write("empty", ""));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->bytes().empty());
}

TEST_F(File, AMappingMovesAndOutlivesTheName) {
  auto opened = MappedFile::open(write("a", "first"));
  ASSERT_TRUE(opened);
  MappedFile file = *std::move(opened);
  std::filesystem::remove(path("a"));
  EXPECT_EQ(text_of(file), "first");
  auto second = MappedFile::open(write("b", "the second"));
  ASSERT_TRUE(second);
  file = *std::move(second);
  EXPECT_EQ(text_of(file), "the second");
  EXPECT_EQ(file.path(), path("b"));
  MappedFile& same = file;
  file = std::move(same);
  EXPECT_EQ(text_of(file), "the second");
}

TEST_F(File, AReplacedFileLeavesAMappingAsItWas) {
  ASSERT_TRUE(write_file_atomically(path("f"), "before"));
  const auto file = MappedFile::open(path("f"));
  ASSERT_TRUE(file);
  ASSERT_TRUE(write_file_atomically(path("f"), "after"));
  EXPECT_EQ(text_of(*file), "before");
}

}  // namespace
}  // namespace fathom
