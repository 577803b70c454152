#pragma once
#include <string>

namespace nebula::store::test_support {

/// One private PostgreSQL server for this process.
class Cluster {
   public:
    /// Starts it on the first call; throws std::runtime_error when that fails.
    static Cluster& instance();

    Cluster(const Cluster&) = delete;
    Cluster& operator=(const Cluster&) = delete;
    /// Stops the server and removes its folder.
    ~Cluster();

    std::string create_database();
    void drop_database(const std::string& name) noexcept;
    std::string url(const std::string& database) const;

   private:
    Cluster();
    void start();

    std::string folder_;
    int alive_ = -1;  // our end of the pipe whose closing stops the server
    int keeper_ = -1;
};

}  // namespace nebula::store::test_support
